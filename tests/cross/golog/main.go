// Command golog reads a log of ours with Go's own packages for transparency logs, sumdb/note and sumdb/tlog.
//
// It takes one JSON value on standard input and answers with one on standard output; exit code 1 and a sentence on
// standard error when anything does not hold. The paths of tiles are those of C2SP's tlog-tiles, which are Go's
// without the height.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type question struct {
	Folder      string        `json:"folder"`      // a published log
	Vkey        string        `json:"vkey"`        // its key
	Proofs      []string      `json:"proofs"`      // .tlog-proof files, under any of its checkpoints
	Entries     [][]byte      `json:"entries"`     // the entry that each of them is about
	Consistency []consistency `json:"consistency"` // proofs to the newest checkpoint
	Sign        string        `json:"sign"`        // a text to sign with a new key
}

type consistency struct {
	Checkpoint string   `json:"checkpoint"`
	Hashes     [][]byte `json:"hashes"`
}

type answer struct {
	Origin     string   `json:"origin"`
	Size       int64    `json:"size"`
	Verified   []string `json:"verified"`
	Unverified int      `json:"unverified"`
	Records    int64    `json:"records"`
	Proofs     int      `json:"proofs"`
	Consistent int      `json:"consistent"`
	Vkey       string   `json:"vkey"`
	Signed     string   `json:"signed"`
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fail(err)
	}
	said, err := check(asked)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func check(asked question) (*answer, error) {
	said := &answer{}
	if asked.Sign != "" {
		return said, sign(asked.Sign, said)
	}
	raw, err := os.ReadFile(filepath.Join(asked.Folder, "checkpoint"))
	if err != nil {
		return nil, err
	}
	tree, opened, err := open(raw, asked.Vkey)
	if err != nil {
		return nil, err
	}
	said.Origin, said.Size, said.Unverified = opened.Sigs[0].Name, tree.N, len(opened.UnverifiedSigs)
	for _, one := range opened.Sigs {
		said.Verified = append(said.Verified, one.Name)
	}
	if said.Records, err = records(asked.Folder, tree); err != nil {
		return nil, err
	}
	for number, text := range asked.Proofs {
		if err := inclusion(text, asked.Entries[number], asked.Vkey); err != nil {
			return nil, fmt.Errorf("proof %d: %v", number, err)
		}
		said.Proofs++
	}
	for _, one := range asked.Consistency {
		older, _, err := open([]byte(one.Checkpoint), asked.Vkey)
		if err != nil {
			return nil, err
		}
		if err := tlog.CheckTree(hashes(one.Hashes), tree.N, tree.Hash, older.N, older.Hash); err != nil {
			return nil, fmt.Errorf("consistency from %d: %v", older.N, err)
		}
		said.Consistent++
	}
	return said, nil
}

// open verifies a signed checkpoint; its text is origin, size and root on a line each.
func open(raw []byte, vkey string) (tlog.Tree, *note.Note, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	opened, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, nil, fmt.Errorf("the note is no checkpoint of %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, opened, err
}

// records checks every entry of the log, from its bundle, against the root by a proof made from the hash tiles.
func records(folder string, tree tlog.Tree) (int64, error) {
	reader := tlog.TileHashReader(tree, tiles{folder})
	entries, err := bundles(folder, tree.N)
	if err != nil {
		return 0, err
	}
	for number := int64(0); number < tree.N; number++ {
		proof, err := tlog.ProveRecord(tree.N, number, reader)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, number, tlog.RecordHash(entries[number])); err != nil {
			return 0, fmt.Errorf("entry %d: %v", number, err)
		}
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil || root != tree.Hash {
		return 0, fmt.Errorf("the tiles lead to another root (%v)", err)
	}
	return tree.N, nil
}

// inclusion checks a .tlog-proof against the checkpoint that it carries.
func inclusion(text string, entry []byte, vkey string) error {
	head, signed, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("no proof")
	}
	tree, _, err := open([]byte(signed), vkey)
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var path [][]byte
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return err
		}
		path = append(path, hash)
	}
	return tlog.CheckRecord(hashes(path), tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

func hashes(raw [][]byte) []tlog.Hash {
	found := make([]tlog.Hash, len(raw))
	for number, one := range raw {
		copy(found[number][:], one)
	}
	return found
}

// sign answers with a note of Go's own, under a key that it makes.
func sign(text string, said *answer) error {
	name := strings.SplitN(text, "\n", 2)[0]
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	said.Vkey, said.Signed = vkey, string(signed)
	return err
}

type tiles struct{ folder string }

func (t tiles) Height() int { return height }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, one := range wanted {
		path := strings.Replace(one.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		raw, err := os.ReadFile(filepath.Join(t.folder, path))
		if err != nil {
			return nil, err
		}
		found = append(found, raw)
	}
	return found, nil
}

// bundles reads every entry: each stands after its length, a big-endian uint16.
func bundles(folder string, size int64) ([][]byte, error) {
	var entries [][]byte
	for number := int64(0); number*256 < size; number++ {
		width := size - number*256
		if width > 256 {
			width = 256
		}
		path := tlog.Tile{H: height, L: 0, N: number, W: int(width)}.Path()
		raw, err := os.ReadFile(filepath.Join(folder, strings.Replace(path, "tile/8/0/", "tile/entries/", 1)))
		if err != nil {
			return nil, err
		}
		for reader := bytes.NewReader(raw); reader.Len() > 0; {
			high, _ := reader.ReadByte()
			low, _ := reader.ReadByte()
			entry := make([]byte, int(high)<<8|int(low))
			if _, err := reader.Read(entry); err != nil {
				return nil, err
			}
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

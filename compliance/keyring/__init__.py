"""The desk's own private keys: files in the work folder or keys in a PKCS #11 token, one for each role.

The approvers' keys are not here, and never on this machine: `compliance.cli.keys` makes them where the approver sits.
"""

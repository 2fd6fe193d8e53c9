"""Reports for print: PDF/A-3 from the verified payload, with what was signed inside it, under a PAdES signature."""

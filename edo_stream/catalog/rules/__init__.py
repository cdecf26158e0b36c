"""The rules of the lint, a module for each subject; a rule looks at a case and adds findings."""

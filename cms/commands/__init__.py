"""The commands of C{cms}, a module for each group; L{cms.cli} registers them."""

"""The spaces of a Callbridge: what they are, where they are kept, and how they are administered."""

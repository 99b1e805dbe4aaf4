"""From a corpus's name to paragraphs, and from paragraphs to rows of token ids."""

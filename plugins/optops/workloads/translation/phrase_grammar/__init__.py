"""A small English-German grammar of travel phrases: lexicon, inflection, clauses, templates."""

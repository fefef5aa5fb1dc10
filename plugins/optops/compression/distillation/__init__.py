"""Knowledge distillation: word-level losses against a teacher, and its translations as targets."""

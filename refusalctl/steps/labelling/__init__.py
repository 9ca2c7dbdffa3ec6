"""From answers to labels: judges, translations, panels of judges, and people."""

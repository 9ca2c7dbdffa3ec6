"""Translators, for judges that read English and for new prompt languages."""

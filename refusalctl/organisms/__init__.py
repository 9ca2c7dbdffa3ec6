"""Model organisms: small chat models whose refusal mechanism is planted, so that the true answer is known.

Pure descriptions, without torch: what is planted (`designs`), the artificial languages and their prompts
(`words`), and what an experiment on them must find (`truth`). `model/files/organism.py` builds the weights.
"""

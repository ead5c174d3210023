"""The greso service: which prompts are worth rolling out, decided from their reward histories."""

"""The agent over HTTP: the protocols of OpenAI, and a page in the browser."""

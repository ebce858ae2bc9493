"""The page in the browser: a chat with pictures, a gallery and a desk for stories."""

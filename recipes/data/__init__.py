"""Training data for any model: records from a large chat model, and a language model's own answers.

`mgem data teach | replay`. nano's synthetic data is in `mgem_agent.recipes.nano.world`.
"""

__all__: list[str] = []

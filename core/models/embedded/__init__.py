"""The project's own small speech language model: weights, config, tokenizer and model card."""

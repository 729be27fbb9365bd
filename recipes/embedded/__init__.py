"""Recipe of the embedded speech language model: speech synthesis, training, export, evaluation."""

"""Examples as lines of training files, and such lines as examples: Milepost's own, MSAgent-Bench's and OpenAI's."""

"""Policy: says what may happen without a person, and keeps what persons allowed for longer."""

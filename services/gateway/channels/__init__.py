"""Chats of messengers: their messages become runs, and answers go back."""

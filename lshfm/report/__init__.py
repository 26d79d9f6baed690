"""Tables for people, made from what runs recorded."""

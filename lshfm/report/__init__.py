"""Reports: tables for the console, made from what runs and checks recorded."""

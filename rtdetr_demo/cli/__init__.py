"""The commands of `python -m rtdetr_demo`, one thin module each."""

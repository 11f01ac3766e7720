"""The words of the product (design.md section 2): ids, models, messages, errors. Imports nothing else of ours."""

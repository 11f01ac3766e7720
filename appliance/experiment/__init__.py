"""The paper's experiments on real nodes (design.md section 6): run, summed up, drawn, reported beside its own."""

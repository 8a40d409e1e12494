"""What a training step is made of beside the model: budgets, optimisers, transfers, threads, processes."""

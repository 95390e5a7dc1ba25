"""What a network is trained on: data, network builder, loss and metric."""

"""The network of hospitals: rounds of federated training, secure sums, the joint kernel."""

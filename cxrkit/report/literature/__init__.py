"""Published results, from `data_manifests/published/`: their works, the paper's tables, the marks they carry."""

"""What should be in the cluster: spec in, plain manifests out. Pure. READ FIRST: profile."""

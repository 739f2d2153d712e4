"""The control plane: custom resources in, compiled templates and consumer Deployments out."""

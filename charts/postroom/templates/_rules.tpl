{{/*
What the operator may do in a namespace that it watches. No verb is a wildcard, and Secrets are not here:
credentials reach the workers through the kubelet alone.
*/}}
{{- define "postroom.rules" -}}
- apiGroups: [postroom.dev]
  resources: [emailtemplates, emaillayouts, smtpprofiles]
  verbs: [get, list, watch]
- apiGroups: [postroom.dev]
  resources: [emailtemplates/status, emaillayouts/status, smtpprofiles/status]
  verbs: [get, patch, update]
# required to set blockOwnerDeletion where the API server checks it (OpenShift does)
- apiGroups: [postroom.dev]
  resources: [smtpprofiles/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [create, delete, get, list, patch, update, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, delete, get, list, patch, update, watch]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch, update]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, delete, get, list, patch, update, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, delete, get, list, patch, update, watch]
- apiGroups: [keda.sh]
  resources: [scaledobjects, triggerauthentications]
  verbs: [create, delete, get, list, patch, update, watch]
# pods are annotated so that the kubelet refreshes their volumes at once
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, patch, watch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

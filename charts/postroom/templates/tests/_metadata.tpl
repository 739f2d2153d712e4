{{- define "postroom.test.metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "postroom.labels" . | nindent 2 }}
  app.kubernetes.io/component: test
{{- end }}

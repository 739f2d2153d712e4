{{/* The chart's name, or nameOverride. */}}
{{- define "postroom.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The release's name and the chart's, without repetition: release "postroom" gives "postroom", release "mail" gives "mail-postroom". */}}
{{- define "postroom.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "postroom.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "postroom.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "postroom.operator.name" -}}
{{ include "postroom.fullname" . }}-operator
{{- end }}

{{- define "postroom.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "postroom.operator.name" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the ServiceAccount to use, since serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The selector labels without `component`, which the including template adds. They never change in a release's life. */}}
{{- define "postroom.selectorLabels" -}}
app.kubernetes.io/name: {{ include "postroom.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "postroom.labels" -}}
{{ include "postroom.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: postroom
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image from registry, repository, tag and digest; a digest has precedence over the tag. Takes a dict with `image` and `tag`. */}}
{{- define "postroom.image" -}}
{{- $name := .image.repository -}}
{{- with .image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $name .image.digest }}
{{- else -}}
{{ printf "%s:%s" $name (default .tag .image.tag) }}
{{- end }}
{{- end }}

{{- define "postroom.ownImage" -}}
{{ include "postroom.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* The Secret with the operator's Kafka connection: an existing Secret, or the chart's. Empty: there is none. */}}
{{- define "postroom.kafkaSecretName" -}}
{{- if .Values.kafka.existingSecret }}
{{- .Values.kafka.existingSecret }}
{{- else if include "postroom.bootstrapServers" . }}
{{- printf "%s-kafka-admin" (include "postroom.fullname" .) }}
{{- end }}
{{- end }}

{{- define "postroom.bootstrapServers" -}}
{{- if .Values.kafka.bootstrapServers }}
{{- .Values.kafka.bootstrapServers }}
{{- else if .Values.quickstart.enabled }}
{{- include "postroom.quickstart.kafka" . }}
{{- end }}
{{- end }}

{{- define "postroom.quickstart.kafka" -}}
{{ include "postroom.fullname" . }}-kafka.{{ .Release.Namespace }}.svc:9092
{{- end }}

{{- define "postroom.quickstart.postgresql" -}}
{{ include "postroom.fullname" . }}-postgresql.{{ .Release.Namespace }}.svc:5432
{{- end }}

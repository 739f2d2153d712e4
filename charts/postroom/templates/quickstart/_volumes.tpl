{{- define "postroom.quickstart.retention" -}}
{{- if .Values.quickstart.persistence.enabled -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: Delete
  whenScaled: Retain
{{- end }}
{{- end }}

{{- define "postroom.quickstart.volume" -}}
{{- if not .Values.quickstart.persistence.enabled -}}
volumes:
  - name: data
    emptyDir: {}
{{- end }}
{{- end }}

{{- define "postroom.quickstart.claim" -}}
{{- if .Values.quickstart.persistence.enabled -}}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .Values.quickstart.persistence.storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .Values.quickstart.persistence.size }}
{{- end }}
{{- end }}

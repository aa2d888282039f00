{{- define "omni-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "omni-operator" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-omni-operator" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "omni-operator.selectorLabels" -}}
app.kubernetes.io/name: omni-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "omni-operator.labels" -}}
{{ include "omni-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: controller
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "omni-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "omni-operator.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "omni-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names. StatefulSets put 11 characters more into labels, pods some more into names. */}}
{{- define "derp.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "derp.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "derp.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "derp.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "derp.nodes" -}}{{ include "derp.fullname" . }}-nodes{{- end -}}
{{- define "derp.etcd" -}}{{ include "derp.fullname" . }}-etcd{{- end -}}

{{- define "derp.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "derp.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels. What selects pods never changes: a workload's selector is immutable. */}}
{{- define "derp.selector" -}}
app.kubernetes.io/name: {{ include "derp.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of pods. Versions are not among them: they would restart what did not change. */}}
{{- define "derp.podLabels" -}}
{{ include "derp.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "derp.labels" -}}
{{ include "derp.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "derp.image" -}}
{{- $tag := default .default .image.tag -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "derp.relayImage" -}}
{{- include "derp.image" (dict "image" .Values.image "default" .Chart.AppVersion) -}}
{{- end -}}

{{/* Secrets, by whoever made them. */}}
{{- define "derp.meshSecret" -}}
{{- default (printf "%s-mesh" (include "derp.fullname" .)) .Values.mesh.existingSecret -}}
{{- end -}}
{{- define "derp.adminSecret" -}}
{{- default (printf "%s-admin" (include "derp.fullname" .)) .Values.admin.existingSecret -}}
{{- end -}}
{{- define "derp.etcdSecret" -}}
{{- default (printf "%s-tls" (include "derp.etcd" .)) .Values.etcd.existingSecret -}}
{{- end -}}
{{- define "derp.tlsSecret" -}}
{{- if eq .Values.tls.mode "files" -}}
{{- .Values.tls.existingSecret -}}
{{- else -}}
{{- include "derp.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{/* Where the address of a relay is from, as JSON. */}}
{{- define "derp.sources" -}}
{{- $usual := dict
  "hostPort" (list "hosts" "annotation" "nodeExternalIP" "hostIP")
  "hostNetwork" (list "hosts" "annotation" "nodeExternalIP" "hostIP")
  "nodePort" (list "hosts" "annotation" "nodeExternalIP" "hostIP")
  "perPodLoadBalancer" (list "hosts" "annotation" "loadBalancer")
  "clusterIP" (list "hosts" "annotation" "clusterIP") -}}
{{- default (get $usual .Values.exposure.mode) .Values.address.sources | toJson -}}
{{- end -}}

{{/* Whether there is a Service for each pod. */}}
{{- define "derp.perPod" -}}
{{- if has .Values.exposure.mode (list "perPodLoadBalancer" "nodePort" "clusterIP") }}true{{ end -}}
{{- end -}}

{{/* What derpd-address reads from the API; each needs a right. */}}
{{- define "derp.readsService" -}}
{{- $sources := include "derp.sources" . | fromJsonArray -}}
{{- if or (eq .Values.exposure.mode "nodePort") (has "loadBalancer" $sources) (has "clusterIP" $sources) }}true{{ end -}}
{{- end -}}
{{- define "derp.readsNode" -}}
{{- if has "nodeExternalIP" (include "derp.sources" . | fromJsonArray) }}true{{ end -}}
{{- end -}}
{{- define "derp.readsApi" -}}
{{- include "derp.readsService" . }}{{ include "derp.readsNode" . -}}
{{- end -}}

{{- define "derp.hasPrivilegedPort" -}}
{{- range $name, $port := .Values.exposure.ports }}{{ if and (lt (int $port) 1024) (gt (int $port) 0) }}true{{ end }}{{ end -}}
{{- end -}}

{{/* Whether relays run as root: a capability alone never helps another user. */}}
{{- define "derp.asRoot" -}}
{{- if and (eq .Values.exposure.mode "hostNetwork") (eq .Values.exposure.bindPrivileged "root") (include "derp.hasPrivilegedPort" .) }}true{{ end -}}
{{- end -}}

{{/* Whether a first container gives the state to the user that runs. Other modes do without it: they
     work where Pod Security is "restricted", which allows no root. */}}
{{- define "derp.givesFolder" -}}
{{- if or (eq .Values.workload.kind "DaemonSet") (has .Values.exposure.mode (list "hostPort" "hostNetwork")) .Values.persistence.adopt }}true{{ end -}}
{{- end -}}

{{- define "derp.hasClients" -}}
{{- if or .Values.admission.clients .Values.admission.existingConfigMap.name .Values.admission.existingSecret.name }}true{{ end -}}
{{- end -}}

{{/* A port of nodes is not 80, so that nobody could ask. */}}
{{- define "derp.http" -}}
{{- if and (gt (int .Values.exposure.ports.http) 0) (ne .Values.exposure.mode "nodePort") }}true{{ end -}}
{{- end -}}

{{- define "derp.etcdEndpoints" -}}
{{- if eq .Values.etcd.mode "external" -}}
{{- toJson .Values.etcd.external.endpoints -}}
{{- else -}}
{{- $found := list -}}
{{- range until (int .Values.etcd.replicas) -}}
{{- $found = append $found (printf "https://%s-%d.%s.%s.svc:2379" (include "derp.etcd" $) . (include "derp.etcd" $) $.Release.Namespace) -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
{{- end -}}

{{/* registry.etcd, for derpd and derpctl alike. */}}
{{- define "derp.registry" -}}
{{- $etcd := dict "endpoints" (include "derp.etcdEndpoints" . | fromJsonArray) "prefix" .Values.etcd.prefix -}}
{{- $keys := "/etc/derpmesh/keys/etcd" -}}
{{- if eq .Values.etcd.mode "embedded" -}}
{{- $_ := set $etcd "ca_file" (printf "%s/ca.crt" $keys) -}}
{{- $_ := set $etcd "certificate" (printf "%s/tls.crt" $keys) -}}
{{- $_ := set $etcd "key" (printf "%s/tls.key" $keys) -}}
{{- else -}}
{{- with .Values.etcd.external -}}
{{- if .caKey }}{{ $_ := set $etcd "ca_file" (printf "%s/ca.crt" $keys) }}{{ end -}}
{{- if .certificateKey -}}
{{- $_ := set $etcd "certificate" (printf "%s/tls.crt" $keys) -}}
{{- $_ := set $etcd "key" (printf "%s/tls.key" $keys) -}}
{{- end -}}
{{- if .user -}}
{{- $_ := set $etcd "user" .user -}}
{{- $_ := set $etcd "password_file" (printf "%s/password" $keys) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "etcd" $etcd | toJson -}}
{{- end -}}

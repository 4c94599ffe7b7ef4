{{/* What every container of ours may do: nothing. */}}
{{- define "derp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- if include "derp.asRoot" . }}
  add: [NET_BIND_SERVICE]
  {{- end }}
{{- end -}}

{{- define "derp.podSecurity" -}}
{{- if include "derp.asRoot" . }}
{{- /* With fsGroup secrets would be a group's, and derpd refuses that of root. The group is for a
       volume that was another user's before. */}}
runAsUser: 0
runAsGroup: 0
supplementalGroups: [65532]
{{- else }}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Secrets are root's; whoever is not root reads them by the group. */}}
{{- define "derp.secretMode" -}}
{{- if include "derp.asRoot" . }}0400{{ else }}0440{{ end -}}
{{- end -}}

{{/* The secrets of a relay, in one folder. */}}
{{- define "derp.keys" -}}
- name: keys
  projected:
    defaultMode: {{ .mode }}
    {{- with .root }}
    sources:
      - secret:
          name: {{ include "derp.meshSecret" . }}
          items:
            - key: {{ .Values.mesh.existingSecretKey }}
              path: mesh.key
      # While the key is replaced these are taken of peers as well.
      - secret:
          name: {{ include "derp.meshSecret" . }}
          optional: true
          items:
            - key: {{ .Values.mesh.existingSecretKey }}.next
              path: mesh.key.next
      - secret:
          name: {{ include "derp.meshSecret" . }}
          optional: true
          items:
            - key: {{ .Values.mesh.existingSecretKey }}.previous
              path: mesh.key.previous
      - secret:
          name: {{ include "derp.adminSecret" . }}
          items:
            {{- range list "token" "ca.crt" "admin.crt" "admin.key" }}
            - key: {{ . }}
              path: admin/{{ . }}
            {{- end }}
      {{- if eq .Values.etcd.mode "embedded" }}
      - secret:
          name: {{ include "derp.etcdSecret" . }}
          items:
            {{- range list "ca.crt" "tls.crt" "tls.key" }}
            - key: {{ . }}
              path: etcd/{{ . }}
            {{- end }}
      {{- else if .Values.etcd.external.existingSecret }}
      - secret:
          name: {{ .Values.etcd.external.existingSecret }}
          items:
            {{- with .Values.etcd.external }}
            {{- range $path, $key := dict "ca.crt" .caKey "tls.crt" .certificateKey "tls.key" .privateKeyKey "password" .passwordKey }}
            {{- if $key }}
            - key: {{ $key }}
              path: etcd/{{ $path }}
            {{- end }}
            {{- end }}
            {{- end }}
      {{- end }}
    {{- end }}
{{- end -}}

{{/* What derpd and derpd-address both need. */}}
{{- define "derp.mounts" -}}
- name: keys
  mountPath: /etc/derpmesh/keys
  readOnly: true
- name: state
  mountPath: /var/lib/derpd
- name: run
  mountPath: /run/derpd
{{- if ne .Values.tls.mode "selfSigned" }}
- name: tls
  mountPath: /etc/derpmesh/tls
  readOnly: true
{{- end }}
{{- end -}}

{{/* A pod with one relay. */}}
{{- define "derp.pod" -}}
{{- $isDaemon := eq .Values.workload.kind "DaemonSet" -}}
{{- $isHostNetwork := eq .Values.exposure.mode "hostNetwork" -}}
metadata:
  labels:
    {{- include "derp.podLabels" (dict "root" . "component" "relay") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ list (include "derp.config" .) (include "derp.address" .) (include "derp.ctl" .) | toJson | sha256sum }}
    kubectl.kubernetes.io/default-container: derpd
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "derp.serviceAccount" . }}
  automountServiceAccountToken: false
  # A Service called derpd would set DERPD_ variables, which are settings.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int .Values.workload.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "derp.podSecurity" . | trim | nindent 4 }}
    {{- if not $isHostNetwork }}
    sysctls:
      - name: net.ipv4.ip_unprivileged_port_start
        value: "0"
    {{- end }}
  {{- if $isHostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  initContainers:
    {{- if include "derp.givesFolder" . }}
    # A folder of the machine is root's when Kubernetes makes it, and files on a volume are of whom
    # they were written by: root with exposure.mode=hostNetwork, and 65532 else.
    - name: folder
      image: {{ include "derp.relayImage" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [chown, --recursive, "{{ if include "derp.asRoot" . }}0{{ else }}65532{{ end }}:65532", /var/lib/derpd]
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          # Whoever is root without the second cannot look into a folder of another user.
          add: [CHOWN, DAC_OVERRIDE]
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/derpd
    {{- end }}
    - name: address
      image: {{ include "derp.relayImage" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [derpd-address, /etc/derpmesh/config/address.yaml]
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        - name: HOST_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      securityContext:
        {{- include "derp.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/derpmesh/config
          readOnly: true
        - name: podinfo
          mountPath: /etc/podinfo
          readOnly: true
        {{- include "derp.mounts" . | nindent 8 }}
        {{- if include "derp.readsApi" . }}
        - name: api
          mountPath: /var/run/secrets/kubernetes.io/serviceaccount
          readOnly: true
        {{- end }}
  containers:
    - name: derpd
      image: {{ include "derp.relayImage" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [derpd]
      env:
        - name: DERPD_CONFIG
          value: /run/derpd/derpd.yaml
        - name: DERPCTL_CONFIG
          value: /etc/derpmesh/config/derpctl.yaml
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: derp
          containerPort: {{ int .Values.exposure.ports.derp }}
          protocol: TCP
          {{- include "derp.hostPort" (dict "root" . "port" .Values.exposure.ports.derp) | nindent 10 }}
        {{- if include "derp.http" . }}
        - name: http
          containerPort: {{ int .Values.exposure.ports.http }}
          protocol: TCP
          {{- include "derp.hostPort" (dict "root" . "port" .Values.exposure.ports.http) | nindent 10 }}
        {{- end }}
        - name: stun
          containerPort: {{ int .Values.exposure.ports.stun }}
          protocol: UDP
          {{- include "derp.hostPort" (dict "root" . "port" .Values.exposure.ports.stun) | nindent 10 }}
        - name: admin
          containerPort: {{ int .Values.admin.port }}
          protocol: TCP
          {{- if $isHostNetwork }}
          hostPort: {{ int .Values.admin.port }}
          {{- end }}
      startupProbe:
        httpGet:
          # A relay that an operator drained before it was restarted has started all the same.
          path: /readyz?draining=ok
          port: admin
          scheme: HTTPS
        periodSeconds: {{ int .Values.probes.periodSeconds }}
        timeoutSeconds: {{ int .Values.probes.timeoutSeconds }}
        failureThreshold: {{ divf .Values.probes.startupSeconds .Values.probes.periodSeconds | ceil | int }}
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
          scheme: HTTPS
        periodSeconds: {{ int .Values.probes.periodSeconds }}
        timeoutSeconds: {{ int .Values.probes.timeoutSeconds }}
        failureThreshold: 2
      # Of the process alone: without etcd and without peers a relay goes on.
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
          scheme: HTTPS
        periodSeconds: {{ int .Values.probes.periodSeconds }}
        timeoutSeconds: {{ int .Values.probes.timeoutSeconds }}
        failureThreshold: {{ int .Values.probes.livenessFailures }}
      lifecycle:
        preStop:
          exec:
            command:
              - derpctl
              - --config
              - /etc/derpmesh/config/self.yaml
              - node
              - drain
              - self
              - --force
              - --wait
              - --grace
              - {{ int .Values.workload.drainSeconds | quote }}
              - --timeout
              - {{ add (int .Values.workload.drainSeconds) 5 | quote }}
      securityContext:
        {{- include "derp.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/derpmesh/config
          readOnly: true
        {{- include "derp.mounts" . | nindent 8 }}
        {{- if include "derp.hasClients" . }}
        - name: clients
          mountPath: /etc/derpmesh/clients
          readOnly: true
        {{- end }}
        {{- range $index, $folder := include "derp.socketFolders" . | fromJsonArray }}
        - name: tailscaled-{{ $index }}
          mountPath: {{ $folder }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "derp.fullname" . }}
    {{- include "derp.keys" (dict "root" . "mode" (include "derp.secretMode" .)) | nindent 4 }}
    - name: run
      emptyDir:
        medium: Memory
        sizeLimit: 16Mi
    - name: podinfo
      downwardAPI:
        items:
          - path: annotations
            fieldRef:
              fieldPath: metadata.annotations
    {{- if include "derp.readsApi" . }}
    # What the first container alone is given of the API.
    - name: api
      projected:
        defaultMode: {{ include "derp.secretMode" . }}
        sources:
          - serviceAccountToken:
              path: token
              expirationSeconds: 3600
          - configMap:
              name: kube-root-ca.crt
              items:
                - key: ca.crt
                  path: ca.crt
    {{- end }}
    {{- if ne .Values.tls.mode "selfSigned" }}
    - name: tls
      secret:
        secretName: {{ include "derp.tlsSecret" . }}
        defaultMode: {{ include "derp.secretMode" . }}
    {{- end }}
    {{- if include "derp.hasClients" . }}
    - name: clients
      {{- if .Values.admission.existingSecret.name }}
      secret:
        secretName: {{ .Values.admission.existingSecret.name }}
        defaultMode: {{ include "derp.secretMode" . }}
        items:
          - key: {{ .Values.admission.existingSecret.key }}
            path: clients
      {{- else }}
      configMap:
        name: {{ default (printf "%s-clients" (include "derp.fullname" .)) .Values.admission.existingConfigMap.name }}
        items:
          - key: {{ ternary "clients" .Values.admission.existingConfigMap.key (empty .Values.admission.existingConfigMap.name) }}
            path: clients
      {{- end }}
    {{- end }}
    {{- range $index, $folder := include "derp.socketFolders" . | fromJsonArray }}
    - name: tailscaled-{{ $index }}
      hostPath:
        path: {{ $folder }}
        type: Directory
    {{- end }}
    {{- if $isDaemon }}
    - name: state
      hostPath:
        path: {{ default (printf "/var/lib/derpmesh/%s/%s" .Release.Namespace .Release.Name) .Values.persistence.hostPath }}
        type: DirectoryOrCreate
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if not $isDaemon }}
  topologySpreadConstraints:
    {{- include "derp.spread" (dict "root" . "component" "relay") | trim | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "derp.spread" -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "derp.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "derp.hostPort" -}}
{{- if has .root.Values.exposure.mode (list "hostPort" "hostNetwork") }}hostPort: {{ int .port }}{{ end -}}
{{- end -}}

{{/* Folders of the sockets of tailscaled, as JSON. */}}
{{- define "derp.socketFolders" -}}
{{- $found := list -}}
{{- range .Values.admission.tailscaledSockets }}{{ $found = append $found (dir .) }}{{ end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

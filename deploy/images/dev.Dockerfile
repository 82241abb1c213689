# For Tilt: a shell, the binary Tilt has built, and a loop that starts it again when Tilt has put a new one in its place.
FROM busybox:1.37
ARG SERVICE
ENV SERVICE=${SERVICE}
COPY ${SERVICE} /app/${SERVICE}
COPY <<'EOF' /run.sh
#!/bin/sh
trap 'kill $(cat /tmp/app.pid); wait; exit 0' TERM INT
while true; do
  "/app/$SERVICE" "$@" &
  echo $! >/tmp/app.pid
  wait $!
  sleep 1
done
EOF
RUN chmod +x /run.sh && chown -R 65534:65534 /app
USER 65534:65534
ENTRYPOINT ["/run.sh"]

# BabyChain in one container: the compiled binary, Litestream beside it, one volume for the database and the outputs.
#
#   docker build -t babychain .
#   docker run --stop-timeout 60 --read-only --tmpfs /tmp -v babychain:/data -p 3000:3000 babychain
#
# A stop drains for up to 40 seconds and Docker kills after 10: hence --stop-timeout (in a compose file it is
# stop_grace_period). Nothing is written outside /data, so the root file system can be read-only. With BUCKET_NAME (and the usual AWS_*
# variables) set, the database is restored from and replicated to that bucket; without it the server runs alone. Where
# others read the outputs, set BABYCHAIN_PUBLIC_URL, the address under which they reach it: without it links name localhost.

FROM oven/bun:1.4.5 AS build
WORKDIR /src
# Only what runs is installed, and exactly what the lock says: Bun reads package-lock.json and refuses when it is stale.
COPY package.json package-lock.json ./
RUN bun install --frozen-lockfile --production --ignore-scripts
COPY tsconfig.json ./
COPY drizzle ./drizzle
COPY scripts ./scripts
COPY src ./src
RUN bun scripts/build.ts

FROM litestream/litestream:0.5.17 AS litestream

# Named by its release, not by a point release: each build takes the security fixes of Debian 12.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 babychain \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin babychain \
    && install -d -o babychain -g babychain -m 0750 /data
COPY --from=litestream /usr/local/bin/litestream /usr/local/bin/litestream
# Litestream up to 0.5.16 carries a SQLite that can corrupt a database when it checkpoints while another process writes.
RUN version="$(litestream version)"; version="${version#v}"; \
    case "$version" in [0-9]*) ;; *) version="0 ($version)" ;; esac; \
    test "$(printf '%s\n' 0.5.17 "$version" | sort -V | head -n 1)" = 0.5.17 \
    || { echo "Litestream $version is refused: 0.5.17 or later is needed" >&2; exit 1; }
COPY --from=build /src/dist/babychain /usr/local/bin/babychain
COPY litestream.yml /etc/litestream.yml
COPY docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh

# BUN_CONFIG_MAX_HTTP_REQUESTS must be in the environment before the start. Bun allows 256 requests in flight for the
# whole process; the engine has its own, lower limits, and this ceiling must never be what a call waits for.
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    PORT=3000 \
    BABYCHAIN_DATA_DIR=/data \
    BUN_CONFIG_MAX_HTTP_REQUESTS=2048
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["babychain", "health"]
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["serve"]

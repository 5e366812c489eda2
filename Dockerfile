# One image for every role of the service: `docker run IMAGE [api|processor|all]`.
# The base is any Debian with Node 24 and bash; a registry's digest belongs into the build's command, not here.
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Optional packages bring a Node and a Postgres for laptops.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM ${NODE_IMAGE} AS page
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY visualizer ./visualizer
RUN node node_modules/vite/bin/vite.js build visualizer

FROM ${NODE_IMAGE}
# Compiled code kept for the next start would be gone with the container.
ENV NODE_ENV=production \
    NODE_DISABLE_COMPILE_CACHE=1 \
    GPU_DEV_LISTEN=0.0.0.0 \
    GPU_DEV_HOME=/var/lib/gpu-dev
WORKDIR /app
RUN groupadd --gid 10001 gpu-dev \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/gpu-dev --create-home --shell /bin/bash gpu-dev
COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY bin ./bin
COPY machines ./machines
COPY persistence ./persistence
COPY actors ./actors
COPY src ./src
COPY --from=page /app/visualizer/dist ./visualizer/dist
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8080) + '/health/live').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "src/main.ts"]

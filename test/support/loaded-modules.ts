/** A process that has an application: says how many modules it loaded, and how many of them are OpenTelemetry's. */
import { RunningApp } from './app.ts'

const { OTEL_EXPORTER_OTLP_ENDPOINT = '' } = process.env
const app = await new RunningApp({ OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS: 'a=b' }).start()
const modules = Object.keys(require.cache)
// The API alone is a part of prom-client, too, and does nothing.
const opentelemetry = modules.filter(path => /@opentelemetry\/(?!api\/)/.test(path))
await app.close()
console.log(JSON.stringify({ modules: modules.length, opentelemetry: opentelemetry.length }))
process.exit(0)

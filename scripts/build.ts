/**
 * Makes the one binary: program, runtime, migrations, Lab and Swagger page in a single file.
 *
 *   bun run build                        dist/babychain for this machine
 *   bun run build --target linux-arm64   dist/babychain-linux-arm64 (may be repeated; linux-x64-musl, darwin-arm64, …)
 *   bun run build --outfile /tmp/one  this machine's, somewhere else
 *   bun run build --all                  dist/babychain-linux-x64 and dist/babychain-linux-arm64
 *
 * 1. Bytecode is always paired with the esm format: with cjs Bun bakes the folder of the build machine into
 *    import.meta.dir, and the binary then works only where it was built.
 * 2. The binary reads no .env and no bunfig.toml of the folder it happens to start in.
 * 3. A worker is not found by following imports, so it is an entry point of its own. Entry points keep their bare
 *    names: `new URL('./studio.worker.ts', import.meta.url)` then names the same file in the sources and in the binary,
 *    where the importing code has moved to the root.
 * 4. What is imported late (the exporter of traces) is a chunk of its own, and not even loaded by a start without it.
 *
 * Another target's runtime is fetched from the package registry once and cached.
 */
import { rm } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = join(import.meta.dir, '..')
const released = ['linux-x64', 'linux-arm64']

/** Builds one target (this machine's when none is named) and returns the line to print: file, target, size, time of the build. */
async function build(target?: string): Promise<string> {
  const started = performance.now()
  const outfile = resolve(values.outfile ?? join(root, 'dist', target ? `babychain-${target}` : 'babychain'))
  const { outputs } = await Bun.build({
    entrypoints: [join(root, 'src/main.ts'), join(root, 'src/providers/sandbox/studio.worker.ts')],
    naming: { entry: '[name].[ext]' },
    format: 'esm',
    minify: true,
    bytecode: true,
    splitting: true,
    sourcemap: 'linked',
    define: { 'process.env.NODE_ENV': '"production"' },
    compile: {
      outfile,
      assets: [join(root, 'drizzle')],
      autoloadDotenv: false,
      autoloadBunfig: false,
      ...(target ? { target: `bun-${target}` as Bun.Build.CompileTarget } : {}),
    },
  })
  // The maps are inside the binary (a stack trace names src/…); the loose copies would only be mistaken for its parts.
  for (const output of outputs) if (output.kind === 'sourcemap') await rm(output.path, { force: true })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const megabytes = (Bun.file(outfile).size / 1e6).toFixed(1)
  return `${relative(root, outfile)}  ${target ?? `${process.platform}-${process.arch}`}  ${megabytes} MB  built in ${seconds} s`
}

const { values } = parseArgs({
  args: Bun.argv.slice(2),
  options: { target: { type: 'string', multiple: true }, all: { type: 'boolean' }, outfile: { type: 'string' } },
})

// One after the other: two at once would share the cores, and the times would say nothing.
for (const target of values.all ? released : (values.target ?? [undefined])) console.log(await build(target))

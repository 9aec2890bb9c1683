/** Prints every model with its routes: what is configured, what takes a plain request, and what it costs. */
import { modelTable, type RouteRow } from '../app/model-table.ts'
import type { Config } from '../config.ts'

export async function models(config: Config): Promise<number> {
  const rows = modelTable(config)
  const lines = rows.map((row, i) => [
    row.model === rows[i - 1]?.model ? '' : row.model,
    row.provider,
    row.providerModel,
    said(row.configured),
    said(row.expressible),
    price(row),
  ])
  const table = [['model', 'provider', 'there called', 'configured', 'plain request', 'usd'], ...lines]
  const widths = table[0]?.map((_, column) => Math.max(...table.map(line => line[column]?.length ?? 0))) ?? []
  for (const line of table)
    process.stdout.write(
      `${line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    )
  const perModel = Map.groupBy(rows, row => row.model)
  const several = [...perModel.values()].filter(routes => routes.length > 1).length
  process.stdout.write(`\n${perModel.size} models, ${rows.length} routes, ${several} models with two routes or more\n`)
  return 0
}

const said = (value: true | string): string => (value === true ? 'yes' : value)
const price = (row: RouteRow): string => (row.usd === null ? '?' : row.usd.toFixed(4))

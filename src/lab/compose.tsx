/** Composing: a chain, a card for each step, the callback, the price, the one button, and the code of exactly this. */
import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect } from 'preact/hooks'
import type { ChainDto, EstimateDto, ModelDto } from '../http/dto/catalog.ts'
import type { CreateRunDto } from '../http/dto.ts'
import { ApiFailure, session } from './api.ts'
import { blockedBy, chains, details, type ModelRow, models, pausedBy, useFreshModels } from './catalog.ts'
import { Checklist } from './checklist.tsx'
import { CodePanel } from './code.tsx'
import {
  body,
  bringBack,
  chain,
  checking,
  chooseChain,
  chooseModel,
  choosing,
  draft,
  dropAside,
  errors,
  hindrance,
  mistakes,
  putAside,
  setParams,
  startRun,
  verdict,
} from './draft.ts'
import { beginAt } from './focus.ts'
import { Form } from './form.tsx'
import { money, plural, roleName, span } from './format.ts'
import { isUnreadable, keptText, useJsonText } from './json-text.ts'
import { place } from './nav.ts'
import { Options } from './options.tsx'
import { handOver } from './run-page.tsx'
import { type Json, type Params, pictureField, type Schema } from './schema.ts'
import { Wire } from './strip.tsx'
import { Unreadable } from './unreadable.tsx'

type TemplateStep = ChainDto['steps'][number]

export function Compose() {
  useFreshModels()
  const current = chain.value
  const ready = details.value.has(draft.value.models[current?.steps[0]?.step_key ?? ''] ?? '')
  useEffect(() => {
    document.title = 'Compose · BabyChain Lab'
    // Once, when the page is ready to be written in.
    if (ready) beginAt('.card textarea:not(.raw)')
  }, [ready])
  if (!current) return <p class="dim loading">loading the catalogue …</p>
  return (
    <>
      <div class="lead">
        <h1>
          Every output becomes the <em>next input</em>.
        </h1>
        <Checklist />
      </div>
      <Aside />
      <ChainPicker />
      <div class="strip" data-steps={current.steps.length}>
        {current.steps.map((step, i) => (
          <>
            {i > 0 && (
              <Wire
                key={`w${step.step_key}`}
                state="idle"
                from={current.steps[i - 1]?.step_kind ?? 'image'}
                to={step.step_kind}
              />
            )}
            <StepCard key={step.step_key} step={step} />
          </>
        ))}
      </div>
      <RunBar />
      <Options />
      {body.value && (
        <CodePanel
          topics={[
            {
              title: 'create this run',
              subject: { does: 'create', slug: current.slug, body: body.value },
            },
            { title: 'verify the callback', subject: { does: 'verify' } },
          ]}
        />
      )}
    </>
  )
}

function Aside() {
  const [newest] = putAside.value
  if (!newest) return null
  return (
    <p class="notice" role="status">
      {newest.own ? 'Another draft stands here; yours is put aside.' : 'Your draft is back; the other is put aside.'}{' '}
      <button type="button" class="quiet" onClick={bringBack}>
        bring it back
      </button>{' '}
      <button type="button" class="quiet" onClick={dropAside}>
        drop it
      </button>
    </p>
  )
}

function ChainPicker() {
  return (
    <fieldset class="chains" aria-label="Chain">
      {chains.value.map(each => (
        <label key={each.slug} class="chain">
          <input
            type="radio"
            name="chain"
            class="offscreen"
            checked={each.slug === chain.value?.slug}
            onChange={() => chooseChain(each.slug)}
          />
          <strong>{each.slug}</strong>
          <span>
            {each.steps.map((step, i) => (
              <span key={step.step_key}>
                {i > 0 && <b aria-hidden="true"> → </b>}
                <i class={step.step_kind}>{roleName(step.step_key)}</i>
              </span>
            ))}
          </span>
        </label>
      ))}
    </fieldset>
  )
}

function StepCard({ step }: { step: TemplateStep }) {
  const key = step.step_key
  const asJson = useSignal(false)
  const chosen = draft.value.models[key] ?? ''
  const detail = details.value.get(chosen)
  const params = draft.value.params[key] ?? {}
  const priced = verdict.value?.steps.find(each => each.step_key === key)
  const base = `/input/${step.params_field}`
  const own = [...errors.value].filter(
    ([pointer]) => pointer === base || pointer === `/input/chain_models/${step.model_field}`,
  )
  const strange = [...errors.value].filter(
    ([pointer]) => pointer.startsWith(`${base}/`) && !Object.hasOwn(propertiesOf(detail), pointer.split('/')[3] ?? ''),
  )
  // What cannot be read is seen nowhere else: it is mended or discarded where it stands.
  const stuck = isUnreadable(base)
  useLayoutEffect(() => {
    if (keptText(base, params) !== null) asJson.value = true
  }, [params])
  const ownPicture = detail ? pictureField(detail) : null
  // A picture that starts from words needs none; it may take some, and that is for those who look for it.
  const aside = step.role === 'text_to_image' ? ownPicture : null
  const [before] = step.depends_on
  const wired = before && ownPicture ? { field: ownPicture, from: roleName(before) } : null
  return (
    <article class={`card pane ${step.step_kind}`} aria-labelledby={`h-${key}`}>
      <header class="pane-head">
        <h2 id={`h-${key}`}>
          <span class="no">{String(step.step_index + 1).padStart(2, '0')}</span> {roleName(key)}
        </h2>
        <fieldset
          class="tabs"
          aria-label={`Write ${roleName(key)} as`}
          disabled={stuck}
          title={stuck ? 'mend or discard what cannot be read first' : undefined}
        >
          <button type="button" aria-pressed={!asJson.value} onClick={() => (asJson.value = false)}>
            Form
          </button>
          <button type="button" aria-pressed={asJson.value} onClick={() => (asJson.value = true)}>
            JSON
          </button>
        </fieldset>
      </header>
      <ModelPicker step={step} chosen={chosen} />
      {step.depends_on.map(each => (
        <p class="takes" key={each}>
          <span aria-hidden="true">⟵</span> takes the picture of <b>{roleName(each)}</b>
        </p>
      ))}
      {asJson.value ? (
        <JsonEditor key={chosen} step={key} pointer={base} value={params} />
      ) : !detail ? (
        <p class="dim loading">loading its parameters …</p>
      ) : (
        <Form
          key={chosen}
          schema={detail.params_schema}
          value={params}
          pointer={base}
          errors={errors.value}
          wired={wired}
          aside={aside}
          set={next => setParams(key, next)}
        />
      )}
      {[...own, ...strange].flatMap(([pointer, list]) =>
        list.map(error => (
          <p class="wrong" key={pointer + error.code}>
            {error.detail} {error.hint && <span class="dim">{error.hint}</span>}
          </p>
        )),
      )}
      <footer class="card-foot">
        <span>{priced ? priceWord(priced.price_usd, [priced]) : '–'}</span>
        <span>{priced ? `usually ${span(priced.expected_ms)}` : '–'}</span>
        <span class="dim">{priced?.provider ? `via ${priced.provider}` : ''}</span>
      </footer>
    </article>
  )
}

function propertiesOf(model: ModelDto | undefined): Record<string, Schema> {
  return (model?.params_schema as Schema | undefined)?.properties ?? {}
}

function ModelPicker({ step, chosen }: { step: TemplateStep; chosen: string }) {
  const able = step.models.flatMap(id => models.value.get(id) ?? [])
  const makers = Map.groupBy(able, (model: ModelRow) => model.id.split('/')[0] ?? '')
  const row = models.value.get(chosen)
  const choice = choosing.value[step.step_key]
  const wished = choice?.failure === null ? choice.id : chosen
  return (
    <div class="field wide model">
      <label class="offscreen" for={`m-${step.step_key}`}>
        Model of {roleName(step.step_key)}
      </label>
      <select
        id={`m-${step.step_key}`}
        value={wished}
        onChange={event => void chooseModel(step.step_key, event.currentTarget.value)}
      >
        {[...makers].map(([maker, list]) => (
          <optgroup label={maker} key={maker}>
            {list.map(model => {
              const reason = blockedBy(model)
              return (
                <option value={model.id} key={model.id} disabled={reason !== null && model.id !== chosen}>
                  {model.id}
                  {reason ? ` — ${reason}` : ''}
                </option>
              )
            })}
          </optgroup>
        ))}
      </select>
      {choice?.failure && (
        <small class="wrong" role="alert">
          {choice.id} could not be loaded{chosen && `, ${chosen} stays`}. {choice.failure}
        </small>
      )}
      {row && blockedBy(row) && <small class="wrong">{blockedBy(row)}</small>}
      {row && pausedBy(row) && <small role="status">{pausedBy(row)}</small>}
    </div>
  )
}

function JsonEditor({ step, pointer, value }: { step: string; pointer: string; value: Params }) {
  const json = useJsonText({
    name: pointer,
    value,
    write: given => JSON.stringify(given, null, 2),
    read: paramsOf,
    set: params => setParams(step, params as Params),
  })
  return (
    <div class={`field wide${json.bad ? ' bad' : ''}`}>
      <label class="offscreen" for={`j-${step}`}>
        Parameters of {roleName(step)} as JSON
      </label>
      <textarea
        id={`j-${step}`}
        class="raw"
        rows={12}
        spellcheck={false}
        value={json.text}
        onInput={event => json.type(event.currentTarget.value)}
      />
      <Unreadable {...json} />
    </div>
  )
}

function paramsOf(text: string): Params {
  const parsed = JSON.parse(text) as Json
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new Error('params are an object')
  return parsed
}

interface Refused {
  failure: ApiFailure
  body: CreateRunDto | null
}

function RunBar() {
  const busy = useSignal(false)
  const newest = useSignal<Refused | null>(null)
  const reason = hindrance.value
  // It was said of that request, and of no other one.
  const refused = newest.value?.body === body.value ? newest.value : null
  const price = verdict.value
  const run = async () => {
    if (busy.value || hindrance.value) return
    busy.value = true
    newest.value = null
    const sent = body.value
    const here = place.value
    try {
      handOver(await startRun(), here)
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error
      newest.value = { failure: error, body: sent }
    } finally {
      busy.value = false
    }
  }
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key === 'Enter' && (event.metaKey || event.ctrlKey)) void run()
    }
    addEventListener('keydown', key)
    return () => removeEventListener('keydown', key)
  }, [])
  const wrong = reason === null ? refused !== null : !checking.value
  return (
    <div class="dock">
      {' '}
      <section class="runbar pane" aria-label="Run">
        <p id="why" class={`why${wrong ? ' wrong' : ''}`} role="status">
          {reason ?? (refused ? wordsOf(refused.failure) : readyWord())}
        </p>
        <p class="sum">
          <b>{price?.valid ? priceWord(price.total_usd, price.steps) : checking.value ? '…' : '–'}</b>
          <span>{price?.valid ? `usually ${span(price.expected_ms)}` : checking.value ? 'being checked' : ''}</span>
        </p>
        <button
          type="button"
          class="primary"
          disabled={reason !== null || busy.value}
          aria-describedby="why"
          onClick={() => void run()}
        >
          {busy.value ? 'starting …' : 'Run the chain'} <kbd>⌃↵</kbd>
        </button>
      </section>
    </div>
  )
}

/** The price of these steps: where one of theirs may be less, so may it. */
function priceWord(usd: number | null, steps: EstimateDto['steps']): string {
  const most = usd !== null && steps.some(({ basis }) => basis === 'upper_bound')
  return `${most ? 'up to ' : ''}${money(usd)}`
}

/** What the server names stands at its fields as well, as soon as the estimate has come. */
function wordsOf(failure: ApiFailure): string {
  const errors = failure.problem?.errors ?? []
  return errors.length > 0 ? `Not started: ${mistakes(errors)}` : failure.words
}

function readyWord(): string {
  const steps = plural(chain.value?.steps.length ?? 0, 'step')
  const paid =
    session.value?.mode === 'sandbox' ? 'the sandbox paints and films it, nothing is charged' : 'your own keys pay'
  return `${steps}, ${verdict.value ? 'nothing wrong with them' : 'still being checked'}; ${paid}`
}

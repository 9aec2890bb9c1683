/**
 * A form for any JSON Schema of the catalogue: every field has its help, its range and its default, and says what is
 * wrong with it where it stands. What is left empty is not sent, so the model's own default holds.
 */
import { useSignal } from '@preact/signals'
import { useEffect, useId, useRef } from 'preact/hooks'
import type { RequestErrorDto } from '../http/dto.ts'
import { isUnreadable, useJsonText } from './json-text.ts'
import { NumberField } from './number-field.tsx'
import { PictureInput } from './pictures.tsx'
import {
  choicesOf,
  isCommon,
  isPicture,
  type Json,
  labelOf,
  type Params,
  picturesAt,
  type Schema,
  sample,
} from './schema.ts'
import { Unreadable } from './unreadable.tsx'

export type Errors = ReadonlyMap<string, readonly RequestErrorDto[]>

interface Wired {
  field: string
  from: string
}

interface FieldProps {
  schema: Schema
  name: string
  value: Json | undefined
  pointer: string
  required: boolean
  errors: Errors
  /** The step that gives the first picture here. */
  from?: string | undefined
  set(value: Json | undefined): void
}

export interface FormProps {
  schema: Schema
  value: Params
  pointer: string
  errors: Errors
  /** The field that a step before fills, and its name: not asked for, but for further pictures where it takes some. */
  wired: Wired | null
  /** Not needed here, so not among the first. */
  aside: string | null
  set(value: Params): void
}

export function Form({ schema, value, pointer, errors, wired, aside, set }: FormProps) {
  // What stands in the way must be seen: a picture from before the step was wired.
  const fields = Object.entries(schema.properties ?? {}).filter(
    ([key, inner]) => key !== wired?.field || picturesAt(inner) > 1 || value[key] !== undefined,
  )
  const field = ([key, inner]: [string, Schema]) => (
    <Field
      key={key}
      schema={inner}
      name={key}
      value={value[key]}
      pointer={`${pointer}/${key}`}
      required={key !== wired?.field && (schema.required?.includes(key) ?? false)}
      errors={errors}
      from={key === wired?.field ? wired.from : undefined}
      set={next => set(withKey(value, key, next))}
    />
  )
  const isFirst = (key: string) => key !== aside && key !== wired?.field && isCommon(key, schema)
  const common = fields.filter(([key]) => isFirst(key))
  const rest = fields
    .filter(([key]) => !isFirst(key))
    .toSorted(([, a], [, b]) => Number(isPicture(a)) - Number(isPicture(b)))
  const given = rest.filter(([key]) => value[key] !== undefined)
  const stuck = rest.some(([key]) => isUnreadable(`${pointer}/${key}`))
  const wrong = stuck || rest.some(([key]) => [...errors.keys()].some(at => at.startsWith(`${pointer}/${key}`)))
  const more = useRef<HTMLDetailsElement>(null)
  // Only ever opened: it would fold up over the field that is being mended.
  useEffect(() => {
    if (wrong && more.current) more.current.open = true
  }, [wrong])
  return (
    <div class="fields">
      {common.map(field)}
      {rest.length > 0 && (
        <details
          class="more"
          ref={more}
          onToggle={event => {
            // What cannot be read is told nowhere else: it stays in sight.
            if (stuck) event.currentTarget.open = true
          }}
        >
          <summary>
            {rest.length} more setting{rest.length === 1 ? '' : 's'}
            {given.length > 0 && <span class="dim"> · {given.length} set</span>}
          </summary>
          <div class="fields">{rest.map(field)}</div>
        </details>
      )}
    </div>
  )
}

function withKey(value: Params, key: string, next: Json | undefined): Params {
  const copy = { ...value }
  if (next === undefined) delete copy[key]
  else copy[key] = next
  return copy
}

function Field(props: FieldProps) {
  const { schema, name, pointer, errors, required } = props
  const id = useId()
  const wrong = errors.get(pointer) ?? []
  if (schema.const !== undefined) return null
  const wide = isWide(schema)
  const group = schema.type === 'object' || (schema.type === 'array' && !isPicture(schema))
  // The help of a prompt stands in the empty prompt; once there is one, it is understood.
  const help = schema.description && schema.format !== 'textarea' && (
    <small id={`${id}-help`}>{schema.description}</small>
  )
  const problems = wrong.map(error => (
    <small class="wrong" key={error.code + error.detail}>
      {error.detail}
    </small>
  ))
  if (group)
    return (
      <fieldset class="group" data-pointer={pointer}>
        <legend>{labelOf(name, schema)}</legend>
        {schema.type === 'object' && help}
        <Group {...props} />
        {problems}
      </fieldset>
    )
  return (
    <div class={`field${wide ? ' wide' : ''}${wrong.length ? ' bad' : ''}`} data-pointer={pointer}>
      <label for={id}>
        {labelOf(name, schema)}
        {required && <span class="must"> required</span>}
      </label>
      <Control {...props} id={id} described={help ? `${id}-help` : undefined} wrong={wrong.length > 0} />
      {help}
      {problems}
    </div>
  )
}

function isWide(schema: Schema): boolean {
  return schema.format === 'textarea' || isPicture(schema) || (schema.maxLength ?? 0) > 200
}

type ControlProps = FieldProps & { id: string; described: string | undefined; wrong: boolean }

function Control(props: ControlProps) {
  const { schema, value, set, id, described, wrong, name, pointer } = props
  const common = { id, 'aria-describedby': described, 'aria-invalid': wrong || undefined }
  const read = (event: Event) => (event.currentTarget as HTMLInputElement).value
  const hint = schema.default === undefined ? '' : `default ${String(schema.default)}`
  if (picturesAt(schema) > 1 && isPicture(schema)) return <Pictures {...props} common={common} />
  if (isPicture(schema))
    return (
      <PictureInput
        {...common}
        label={name}
        value={String(value ?? '')}
        set={ref => set(ref === '' ? undefined : ref)}
      />
    )
  const choices = schema.enum || schema.anyOf ? choicesOf(schema) : null
  if (choices)
    return (
      <select
        {...common}
        value={value === undefined ? '' : JSON.stringify(value)}
        onChange={event => {
          const text = (event.currentTarget as HTMLSelectElement).value
          set(text === '' ? undefined : (JSON.parse(text) as Json))
        }}
      >
        <option value="">{hint || '–'}</option>
        {[...new Set([...choices, ...(value === undefined ? [] : [value])])].map(each => (
          <option key={String(each)} value={JSON.stringify(each)}>
            {String(each)}
          </option>
        ))}
      </select>
    )
  if (schema.type === 'boolean')
    return (
      <span class="switch">
        <input
          {...common}
          type="checkbox"
          checked={(value ?? schema.default ?? false) === true}
          onChange={event => set((event.currentTarget as HTMLInputElement).checked)}
        />
        <i aria-hidden="true" />
      </span>
    )
  if (schema.type === 'integer' || schema.type === 'number')
    return <NumberInput {...common} name={pointer} schema={schema} value={value} set={set} hint={hint} />
  if (schema.format === 'textarea')
    return (
      <textarea
        {...common}
        rows={4}
        placeholder={schema.description}
        value={String(value ?? '')}
        onInput={event => set(read(event) || undefined)}
      />
    )
  if (schema.type === 'string')
    return (
      <input
        {...common}
        type="text"
        value={String(value ?? '')}
        placeholder={hint || String(schema.examples?.[0] ?? '')}
        onInput={event => set(read(event) || undefined)}
      />
    )
  return <RawInput {...common} name={pointer} value={value} set={set} />
}

/** A picture, or several: one alone stands as it is where it may, those after a wired one always stand in a list. */
function Pictures({ schema, value, from, set, name, common }: ControlProps & { common: { id: string } }) {
  const adding = useSignal(false)
  const given = (value === undefined ? [] : [value].flat()).map(String)
  const wired = from !== undefined
  const slots = adding.value || (given.length === 0 && !wired) ? [...given, ''] : given
  const most = picturesAt(schema) - (wired ? 1 : 0)
  const change = (i: number, ref: string) => {
    const refs = slots.map((had, k) => (k === i ? ref : had)).filter(each => each !== '')
    // Who empties a field goes on to write in it.
    adding.value = ref === ''
    const single = refs.length === 1 && !wired && schema.type !== 'array'
    set(refs.length === 0 ? undefined : single ? (refs[0] ?? '') : refs)
  }
  return (
    <>
      {wired && <small>The picture of {from} comes first; those given here follow it.</small>}
      {slots.map((ref, i) => (
        <PictureInput
          key={i}
          {...common}
          {...(i > 0 && { id: `${common.id}-${i}`, 'aria-label': `Further picture ${i + 1}` })}
          label={name}
          value={ref}
          set={next => change(i, next)}
        />
      ))}
      {slots.length === given.length && given.length < most && (
        <span class="adds">
          {/* The field above folds when it loses the focus, and the button would be gone from under the pointer. */}
          <button
            type="button"
            class="quiet"
            onMouseDown={event => event.preventDefault()}
            onClick={() => (adding.value = true)}
          >
            + further picture
          </button>
        </span>
      )}
    </>
  )
}

interface InputProps {
  id: string
  'aria-describedby': string | undefined
  'aria-invalid': boolean | undefined
  value: Json | undefined
  set(value: Json | undefined): void
}

type NamedProps = InputProps & { name: string }

/** Small ranges get a slider beside the number: one can feel them. */
function NumberInput({ schema, value, set, hint, ...common }: NamedProps & { schema: Schema; hint: string }) {
  const { minimum: min, maximum: max } = schema
  const step = schema.multipleOf ?? (schema.type === 'integer' ? 1 : 'any')
  const slides = min !== undefined && max !== undefined && max - min <= 100
  const shown = Number(value ?? schema.default ?? min ?? 0)
  return (
    <span class={slides ? 'number slides' : 'number'}>
      {slides && (
        <input
          type="range"
          aria-label={`${schema.title ?? 'value'}, slider`}
          min={min}
          max={max}
          step={step === 'any' ? (max - min) / 100 : step}
          value={shown}
          onInput={event => set(event.currentTarget.valueAsNumber)}
        />
      )}
      <NumberField
        {...common}
        min={min}
        max={max}
        step={step}
        value={value === undefined ? undefined : Number(value)}
        placeholder={slides ? hint.replace('default ', '') : hint}
        set={set}
      />
    </span>
  )
}

/** What no other control can express, as JSON. */
function RawInput({ name, value, set, ...common }: NamedProps) {
  const json = useJsonText({
    name,
    value,
    write: given => (given === undefined ? '' : JSON.stringify(given)),
    read: typed => (typed.trim() === '' ? undefined : (JSON.parse(typed) as Json)),
    set,
  })
  return (
    <>
      <textarea
        {...common}
        aria-invalid={json.bad !== undefined || common['aria-invalid']}
        class="raw"
        rows={2}
        spellcheck={false}
        value={json.text}
        onInput={event => json.type(event.currentTarget.value)}
      />
      <Unreadable {...json} />
    </>
  )
}

function Group({ schema, value, pointer, errors, set, name }: FieldProps) {
  if (schema.type === 'object')
    return (
      <div class="fields">
        {Object.entries(schema.properties ?? {}).map(([key, inner]) => (
          <Field
            key={key}
            schema={inner}
            name={key}
            value={(value as Params | undefined)?.[key]}
            pointer={`${pointer}/${key}`}
            required={schema.required?.includes(key) ?? false}
            errors={errors}
            set={next => {
              const copy = withKey((value as Params | undefined) ?? {}, key, next)
              set(Object.keys(copy).length === 0 ? undefined : copy)
            }}
          />
        ))}
      </div>
    )
  const items = Array.isArray(value) ? value : []
  const kinds = schema.items?.anyOf ?? (schema.items ? [schema.items] : [])
  const full = items.length >= (schema.maxItems ?? 20)
  const change = (i: number, next: Json | undefined) => {
    const copy = items.flatMap((item, k) => (k === i ? (next === undefined ? [] : [next]) : [item]))
    set(copy.length === 0 ? undefined : copy)
  }
  return (
    <>
      {items.map((item, i) => (
        <div class="part" key={i}>
          <Field
            schema={kindOf(kinds, item)}
            name={`${name} ${i + 1}`}
            value={item}
            pointer={`${pointer}/${i}`}
            required={false}
            errors={errors}
            set={next => change(i, next)}
          />
          {items.length > (schema.minItems ?? 0) && (
            <button type="button" class="quiet drop" onClick={() => change(i, undefined)}>
              remove
            </button>
          )}
        </div>
      ))}
      {!full && (
        <div class="adds">
          {kinds.map(kind => (
            <button type="button" class="quiet" key={kind.title} onClick={() => set([...items, sample(kind)])}>
              + {kind.title ?? 'entry'}
            </button>
          ))}
        </div>
      )}
    </>
  )
}

/** The kind of a part is told by its constants, such as `type`. */
function kindOf(kinds: readonly Schema[], item: Json): Schema {
  const fits = (kind: Schema) =>
    Object.entries(kind.properties ?? {}).every(
      ([key, inner]) => inner.const === undefined || (item as Params | null)?.[key] === inner.const,
    )
  return kinds.find(fits) ?? kinds[0] ?? {}
}

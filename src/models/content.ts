/**
 * `content`, the list in which ByteDance's and MiniMax' newer models take the prompt and everything else (providers.md 2.4, 9.2).
 *
 * 1. A picture's `role` says what it is for; without one it is the first frame. Where a step before gives the first frame,
 *    the text alone is enough.
 * 2. Frames (first, last) and references (pictures, films, sounds) exclude each other. Where a step before gives a picture
 *    and the caller adds references, that picture is the first reference.
 */
import { isObject, type Json, type JsonObject } from '../core/json.ts'
import type { Draft, Input, Slot } from './draft.ts'
import { choice, link, picture, prompt } from './fields.ts'
import { runwayFrames } from './hosts.ts'
import { type Tell, textIn, type Use } from './model.ts'

export interface ContentLimits {
  lastFrame: boolean
  /** Reference pictures. */
  references: number
  /** Reference films and sounds. */
  clips: boolean
}

export function contentField({ lastFrame, references, clips }: ContentLimits): JsonObject {
  const roles = ['first_frame', ...(lastFrame ? ['last_frame'] : []), ...(references > 0 ? ['reference_image'] : [])]
  const variants = [
    entry('text', 'Text', { text: prompt() }, ['text']),
    entry('image_url', 'Picture', { image_url: wrapped(picture({ title: 'Picture' })), role: role(roles) }, [
      'image_url',
    ]),
  ]
  if (clips) {
    const film = wrapped(link({ title: 'Film', description: 'An https URL.' }))
    const sound = wrapped(link({ title: 'Sound', description: 'An https URL.' }))
    variants.push(
      entry('video_url', 'Film', { video_url: film, role: role(['reference_video']) }, ['video_url']),
      entry('audio_url', 'Sound', { audio_url: sound, role: role(['reference_audio']) }, ['audio_url']),
    )
  }
  return {
    type: 'array',
    title: 'Content',
    description:
      references > 0
        ? 'The prompt as {"type":"text"}, and pictures that no step before provides. Beside references, the picture of the step before is a reference too, the first.'
        : 'The prompt as {"type":"text"}, and pictures that no step before provides.',
    items: { anyOf: variants },
    minItems: 1,
    maxItems: 1 + 2 + references + (clips ? 2 * MOST_CLIPS : 0),
    examples: [[{ type: 'text', text: 'Slow orbit around the product' }]],
  }
}

/** Reference films and sounds that such a model reads. */
const MOST_CLIPS = 3

const entry = (
  type: string,
  title: string,
  properties: Record<string, JsonObject>,
  required: string[],
): JsonObject => ({
  type: 'object',
  title,
  properties: { type: { type: 'string', const: type, default: type }, ...properties },
  required: ['type', ...required],
  additionalProperties: false,
})

const wrapped = (field: JsonObject): JsonObject => ({
  type: 'object',
  properties: { url: field },
  required: ['url'],
  additionalProperties: false,
})

const role = (roles: readonly string[]): JsonObject => choice(roles, { title: 'Role' })

const SLOT_OF: Record<string, Slot> = { first_frame: 'first', last_frame: 'last', reference_image: 'reference' }

/** The pictures in `content`, and everything else that stands there. */
export function contentInputs(given: JsonObject): { inputs: Input[]; texts: string[]; clips: JsonObject[] } {
  const found: { inputs: Input[]; texts: string[]; clips: JsonObject[] } = { inputs: [], texts: [], clips: [] }
  const content = Array.isArray(given.content) ? given.content : []
  content.forEach((item: Json, i) => {
    if (!isObject(item)) return
    if (item.type === 'text' && typeof item.text === 'string') found.texts.push(item.text)
    else if (item.type === 'image_url' && isObject(item.image_url) && typeof item.image_url.url === 'string') {
      const slot = SLOT_OF[textIn(item, 'role') ?? 'first_frame'] ?? 'first'
      found.inputs.push({ pointer: `/content/${i}/image_url/url`, value: item.image_url.url, slot })
    } else found.clips.push(item)
  })
  return found
}

export function contentRules(limits: ContentLimits, given: JsonObject, tell: Tell, use: Use): void {
  const { inputs, texts, clips } = contentInputs(given)
  const of = (slot: Slot): Input[] => inputs.filter(input => input.slot === slot)
  const content = Array.isArray(given.content) ? given.content : []
  const count = (type: string): number => clips.filter(item => item.type === type).length
  if (texts.length > 1) tell('/content', 'conflict', 'content takes one text', 'Join the texts.')
  if (of('first').length > 1) {
    tell('/content', 'conflict', 'content takes one first frame', 'Give every picture its role.')
  }
  if (of('last').length > 1) tell('/content', 'conflict', 'content takes one last frame')
  if (of('last').length > 0 && of('first').length === 0 && !use.wired) {
    tell('/content', 'conflict', 'a last frame needs a first frame', 'Add a picture with role first_frame.')
  }
  const frames = of('first').length + of('last').length
  const references = of('reference').length + clips.length
  if (frames > 0 && references > 0) {
    tell('/content', 'conflict', 'frames and references exclude each other', 'Give either, not both.')
  }
  const wiredReference = use.wired && references > 0 ? 1 : 0
  if (of('reference').length + wiredReference > limits.references && references > 0) {
    const also = wiredReference > 0 ? ', the one from the step before included' : ''
    tell('/content', 'length', `content takes at most ${limits.references} reference pictures${also}`)
  }
  for (const type of ['video_url', 'audio_url']) {
    if (count(type) > MOST_CLIPS) tell('/content', 'length', `content takes at most ${MOST_CLIPS} of ${type}`)
  }
  if (count('audio_url') > 0 && of('reference').length + count('video_url') + wiredReference === 0) {
    tell('/content', 'conflict', 'a reference sound needs a reference picture or film')
  }
  if (content.length > 0 && texts.length === 0 && !use.wired && inputs.length === 0 && clips.length === 0) {
    tell('/content', 'required', 'content needs a text or a picture')
  }
}

export interface Content {
  text: string | undefined
  /** Films and sounds, as the caller gave them. */
  clips: JsonObject[]
  first: string | undefined
  last: string | undefined
  references: string[]
}

/** What `content` says, with every picture in the form that the provider reads. */
export function contentOf(draft: Draft): Content {
  const content = draft.given('content')
  const items = (Array.isArray(content) ? content : []).filter(isObject)
  const text = items.find(item => item.type === 'text')?.text
  const clips = items.filter(item => item.type === 'video_url' || item.type === 'audio_url')
  const first = draft.one('first')
  const references = draft.take('reference').map(ref => ref.ref)
  const asReference = first !== undefined && (references.length > 0 || clips.length > 0)
  return {
    text: typeof text === 'string' ? text : undefined,
    clips,
    first: asReference ? undefined : first,
    last: draft.one('last'),
    references: asReference ? [first, ...references] : references,
  }
}

/** Sends the addresses of the films and the sounds as lists. */
export function sendClips(draft: Draft, clips: readonly JsonObject[], films: string, sounds: string): void {
  const urls = (type: string): string[] =>
    clips.flatMap(clip => {
      const inner = clip[type]
      return isObject(inner) && typeof inner.url === 'string' ? [inner.url] : []
    })
  for (const [type, field] of [
    ['video_url', films],
    ['audio_url', sounds],
  ] as const) {
    const found = urls(type)
    if (found.length > 0) draft.send(field, found)
  }
}

/** As Runway takes it: frames and references in one list, sounds in another, no films. */
export function sendToRunway(draft: Draft, { text, clips, first, last, references }: Content): void {
  draft.send('promptText', text)
  draft.send('promptImage', [...runwayFrames(first, last), ...references.map(uri => ({ uri }))])
  if (clips.some(clip => clip.type === 'video_url')) draft.refuse('runway takes no reference films here')
  const sounds = clips.flatMap(({ audio_url: inner }) =>
    isObject(inner) && typeof inner.url === 'string' ? [{ type: 'audio', uri: inner.url }] : [],
  )
  if (sounds.length > 0) draft.send('referenceAudio', sounds)
}

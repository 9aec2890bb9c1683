/** Where the reader is. The address is the state: a reload or another browser shows the same. */
import { signal } from '@preact/signals'

export const place = signal(new URL(location.href))

/** Whether the reader has come back to where they are: then they look for what they have left. */
export let isBack = false

addEventListener('popstate', () => {
  isBack = true
  place.value = new URL(location.href)
})

export function go(path: string, replace = false): void {
  isBack = false
  history[replace ? 'replaceState' : 'pushState'](null, '', path)
  const before = place.value
  place.value = new URL(location.href)
  if (before.pathname !== place.value.pathname) scrollTo({ top: 0 })
}

/** Plain clicks on links of ours stay in the page; with a modifier the browser does what it always does. */
export function onLink(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return
  const link = (event.target as Element).closest('a')
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return
  if (/^\/(api|swagger|metrics|healthz|readyz)/.test(link.pathname)) return
  // Within a page the browser moves the focus as well, which is what the link that skips to the content is for.
  if (link.hash !== '' && link.pathname + link.search === location.pathname + location.search) return
  event.preventDefault()
  go(link.pathname + link.search + link.hash)
}

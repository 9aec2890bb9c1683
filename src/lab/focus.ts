/** Where the keyboard is. */

/**
 * Puts the cursor where a page begins to be written in; never under the hands of somebody who has begun elsewhere, and not on
 * a small screen, whose keyboard would cover the page.
 */
export function beginAt(selector: string): void {
  const { activeElement, body } = document
  const isIdle = activeElement === body || activeElement?.id === 'main'
  if (isIdle && matchMedia('(min-width: 760px)').matches)
    document.querySelector<HTMLElement>(selector)?.focus({ preventScroll: true })
}

/**
 * Whoever acts by the keyboard stays where they acted. A control that was held while its order was under way has the focus
 * again after it; around one that is gone the focus is on what is left, and on no other control: a key that is still down
 * must not press it.
 */
export function keepFocus(): () => void {
  /** What had the focus, and all around it. */
  let path: readonly Element[] = []
  const over = new AbortController()
  const { signal } = over
  document.addEventListener('focusin', event => (path = elementsOf(event)), { signal })
  document.addEventListener('pointerdown', () => (path = []), { signal })
  const observer = new MutationObserver(() => {
    const left = path.find(each => each.isConnected)
    if (!(left instanceof HTMLElement) || document.activeElement !== document.body || left.matches(':disabled')) return
    if (left !== path[0] && !left.hasAttribute('tabindex')) left.tabIndex = -1
    left.focus({ preventScroll: true })
  })
  observer.observe(document.body, { childList: true, subtree: true, attributeFilter: ['disabled'] })
  signal.addEventListener('abort', () => observer.disconnect())
  return () => over.abort()
}

const elementsOf = (event: Event): Element[] => event.composedPath().filter(each => each instanceof Element)

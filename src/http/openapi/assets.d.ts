/** Files of the Swagger page: imported as paths (`with { type: 'file' }`), embedded by the bundler. */
declare module 'swagger-ui-dist/swagger-ui-bundle.js' {
  const path: string
  // biome-ignore lint/style/noDefaultExport: a file is imported as the default
  export default path
}
declare module 'swagger-ui-dist/swagger-ui.css' {
  const path: string
  // biome-ignore lint/style/noDefaultExport: a file is imported as the default
  export default path
}

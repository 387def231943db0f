window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (window.yutuCsrf && request.method !== "GET") request.headers["X-CSRF-Token"] = window.yutuCsrf;
    return request;
  },
});
fetch("/v1/session", { credentials: "same-origin" })
  .then((answer) => (answer.ok ? answer.json() : {}))
  .then((session) => (window.yutuCsrf = session.csrf));

// Leads a reload of the hidden order address back to the order; see order.js.
"use strict";
{
  const order = history.state && history.state.order;
  if (typeof order === "string" && /^\/[^/\\]/.test(order) && order !== location.pathname) {
    location.replace(order);
  }
}

// Shopify requires one file for each target. Both have the same block.
export { default } from "./ManageSubscriptions.tsx";

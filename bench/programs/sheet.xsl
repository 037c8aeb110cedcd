<!-- A job for the benchmark: sorted orders as HTML. usage: xsltproc sheet.xsl ORDERS.xml -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:template match="/">
    <html>
      <xsl:for-each select="orders/order">
        <xsl:sort select="item/@name"/>
        <p class="{@state}">
          <b><xsl:value-of select="concat(item/@name, ': ', translate(item, 'abc', 'ABC'))"/></b>
          <xsl:value-of select="string-length(normalize-space(note))"/>
        </p>
      </xsl:for-each>
    </html>
  </xsl:template>
</xsl:stylesheet>

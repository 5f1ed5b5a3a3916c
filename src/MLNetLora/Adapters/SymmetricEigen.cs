namespace MLNetLora.Adapters;

/// <summary>Eigenvalues and eigenvectors of a small symmetric matrix by Jacobi's rotations (Golub and Van Loan, Matrix Computations, 8.5).</summary>
internal static class SymmetricEigen
{
    private const int MostSweeps = 60;

    /// <summary>The eigenvalues, largest first, and their vectors in rows.</summary>
    /// <param name="matrix">[n, n], symmetric; not changed.</param>
    /// <param name="n">Its size.</param>
    public static (double[] Values, double[] Vectors) Of(double[] matrix, int n)
    {
        double[] a = [.. matrix];
        double[] v = new double[n * n];
        for (int i = 0; i < n; i++)
        {
            v[(i * n) + i] = 1;
        }

        for (int sweep = 0; sweep < MostSweeps; sweep++)
        {
            double off = 0, diagonal = 0;
            for (int i = 0; i < n; i++)
            {
                diagonal += a[(i * n) + i] * a[(i * n) + i];
                for (int j = 0; j < i; j++)
                {
                    off += a[(i * n) + j] * a[(i * n) + j];
                }
            }

            if (!(off > 1e-28 * diagonal))
            {
                break;
            }

            for (int p = 0; p < n - 1; p++)
            {
                for (int q = p + 1; q < n; q++)
                {
                    Rotate(a, v, n, p, q);
                }
            }
        }

        int[] order = [.. Enumerable.Range(0, n).OrderByDescending(i => a[(i * n) + i])];
        return ([.. order.Select(i => a[(i * n) + i])], [.. order.SelectMany(i => v[(i * n)..((i + 1) * n)])]);
    }

    /// <summary>Makes one element beside the diagonal zero.</summary>
    private static void Rotate(double[] a, double[] v, int n, int p, int q)
    {
        double apq = a[(p * n) + q];
        if (apq == 0)
        {
            return;
        }

        double theta = (a[(q * n) + q] - a[(p * n) + p]) / (2 * apq);
        double t = (theta >= 0 ? 1 : -1) / (Math.Abs(theta) + Math.Sqrt((theta * theta) + 1));
        double c = 1 / Math.Sqrt((t * t) + 1);
        double s = t * c;
        for (int k = 0; k < n; k++)
        {
            (double kp, double kq) = (a[(k * n) + p], a[(k * n) + q]);
            (a[(k * n) + p], a[(k * n) + q]) = ((c * kp) - (s * kq), (s * kp) + (c * kq));
        }

        for (int k = 0; k < n; k++)
        {
            (double pk, double qk) = (a[(p * n) + k], a[(q * n) + k]);
            (a[(p * n) + k], a[(q * n) + k]) = ((c * pk) - (s * qk), (s * pk) + (c * qk));
            (pk, qk) = (v[(p * n) + k], v[(q * n) + k]);
            (v[(p * n) + k], v[(q * n) + k]) = ((c * pk) - (s * qk), (s * pk) + (c * qk));
        }
    }
}
